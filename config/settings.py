"""The only settings module: everything that differs between installations comes from the environment.

`.env.example` names every variable. A missing or senseless value stops the start with a sentence that says
how to mend it.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static
from django.urls import reverse_lazy

from config import passwords
from config.embedded import paths
from config.environment import (
    checked_link,
    checked_stripe_key,
    checked_url,
    env,
    env_bool,
    env_int,
    env_list,
    env_origins,
    env_rate,
)
from config.logs import logging_config
from config.navigation import NAVIGATION
from config.schedule import SCHEDULE

BASE_DIR = Path(__file__).resolve().parent.parent

# Secrets ---------------------------------------------------------------------------------------------------------

INSECURE_SECRET = "insecure-development-secret-that-production-refuses"  # noqa: S105
INSECURE_ENCRYPTION_KEY = "aW5zZWN1cmUtZGV2ZWxvcG1lbnQta2V5LTAwMDAwMDA="

_generated = paths.secrets()
DEBUG = env_bool("DJANGO_DEBUG")
SECRET_KEY = env("SECRET_KEY") or _generated.get("SECRET_KEY", INSECURE_SECRET)
JWT_SECRET_KEY = env("JWT_SECRET_KEY") or _generated.get("JWT_SECRET_KEY", INSECURE_SECRET)
FIELD_ENCRYPTION_KEYS = env_list("FIELD_ENCRYPTION_KEYS") or [
    _generated.get("FIELD_ENCRYPTION_KEYS", INSECURE_ENCRYPTION_KEY)
]

# Hosts -----------------------------------------------------------------------------------------------------------

ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = env_list("CSRF_TRUSTED_ORIGINS")
BEHIND_TLS = env_bool("BEHIND_TLS")
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_TLS else None
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = BEHIND_TLS
SECURE_HSTS_SECONDS = 31_536_000 if BEHIND_TLS else 0
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 24 * 3600
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
# How many proxies in front of us append to X-Forwarded-For; 0 trusts the peer address alone.
TRUSTED_PROXIES = env_int("TRUSTED_PROXIES", 0)
# Whose pages may call the API out of a browser.
CORS_ALLOWED_ORIGINS = env_origins("CORS_ALLOWED_ORIGINS")
CORS_URLS_REGEX = r"^/((api|v1)/|mcp/?$)"
CORS_ALLOW_HEADERS = [
    *("authorization", "content-type", "idempotency-key", "x-api-key", "x-conversation-id", "x-on-behalf-of"),
    *("mcp-method", "mcp-name", "mcp-protocol-version", "x-request-id"),
    # What OpenAI's own client for browsers sends along.
    *(f"x-stainless-{name}" for name in ("arch", "helper-method", "lang", "os", "package-version", "retry-count")),
    *(f"x-stainless-{name}" for name in ("runtime", "runtime-version", "timeout")),
]
CORS_EXPOSE_HEADERS = [
    *("retry-after", "x-request-id", "x-should-retry", "x-quota-reset", "idempotent-replayed"),
    *(f"x-ratelimit-{what}-{unit}" for what in ("limit", "remaining", "reset") for unit in ("requests", "tokens")),
]

# How people reach this installation: links in mails begin with it.
PUBLIC_URL = checked_url("PUBLIC_URL", env("PUBLIC_URL")) or f"http://127.0.0.1:{env('PORT', '8000')}"

# Applications ----------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "unfold.contrib.import_export",
    "accounts.apps.OperatorAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "import_export",
    "axes",
    "config",
    "accounts",
    "quotas",
    "inference",
    "prompts",
    "conversations",
    "analytics",
]

MIDDLEWARE = [
    "config.middleware.RequestMiddleware",
    "config.cors.ApiCorsMiddleware",
    "config.middleware.PageSecurityMiddleware",
    "config.content_security.PagePolicyMiddleware",
    "config.middleware.PageStaticMiddleware",
    "config.middleware.PageSessionMiddleware",
    "config.middleware.PageCsrfMiddleware",
    "config.middleware.PageAuthenticationMiddleware",
    "config.middleware.PageMessageMiddleware",
    "config.middleware.PageFrameMiddleware",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
WSGI_APPLICATION = "config.wsgi.application"
APPEND_SLASH = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# PostgreSQL ------------------------------------------------------------------------------------------------------

DATABASE_POOL_SIZE = env_int("DATABASE_POOL_SIZE", 10)
DATABASE_MAX_OVERFLOW = env_int("DATABASE_MAX_OVERFLOW", 20)
# Threads of each web process that run the two transactions of asynchronous calls; each keeps one connection.
SERVICE_THREADS = env_int("SERVICE_THREADS", max(1, min(4, DATABASE_POOL_SIZE // 2)))


def database_params() -> dict[str, Any]:
    """Where PostgreSQL is: DATABASE_URL, else POSTGRES_*, else the embedded server."""
    if url := env("DATABASE_URL"):
        parts = urlsplit(url)
        if parts.scheme not in {"postgres", "postgresql"}:
            raise ImproperlyConfigured("DATABASE_URL must look like postgresql://user:password@host:5432/name.")
        return {
            "HOST": parts.hostname or "",
            "PORT": str(parts.port or ""),
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "NAME": unquote(parts.path.lstrip("/")),
        }
    if env("POSTGRES_HOST"):
        return {
            "HOST": env("POSTGRES_HOST"),
            "PORT": env("POSTGRES_PORT", "5432"),
            "USER": env("POSTGRES_USER", "postgres"),
            "PASSWORD": env("POSTGRES_PASSWORD"),
            "NAME": env("POSTGRES_DB", "mainstay"),
        }
    embedded = paths.postgres_params()
    return {
        "HOST": embedded["host"],
        "PORT": str(embedded["port"]),
        "USER": embedded["user"],
        "PASSWORD": "",
        "NAME": embedded["dbname"],
    }


DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        **database_params(),
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            # So that pg_stat_activity tells whose a connection is.
            "application_name": env("APPLICATION_NAME", "mainstay"),
            "server_side_binding": True,
            "prepare_threshold": 2,
            "pool": {
                "min_size": 1,
                "max_size": DATABASE_POOL_SIZE + DATABASE_MAX_OVERFLOW,
                "timeout": 5,
                # After a failed attempt the pool waits ever longer before the next. It shall rather give up soon:
                # whoever asks for a connection then makes it try again.
                "reconnect_timeout": 1,
            },
            "options": "-c lock_timeout=10s -c idle_in_transaction_session_timeout=60s",
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Redis -----------------------------------------------------------------------------------------------------------


def redis_url() -> str:
    """Where Redis is: REDIS_URL, else REDIS_*, else the embedded server."""
    if env("REDIS_URL"):
        return env("REDIS_URL")
    if env("REDIS_HOST"):
        return f"redis://{env('REDIS_HOST')}:{env('REDIS_PORT', '6379')}/{env('REDIS_DB', '0')}"
    return paths.redis_url()


REDIS_URL = redis_url()
REDIS_OPTIONS = {
    "CLIENT_CLASS": "django_redis.client.DefaultClient",
    "CONNECTION_POOL_KWARGS": {"socket_timeout": 5, "socket_connect_timeout": 2},
}
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS_URL,
        "OPTIONS": REDIS_OPTIONS,
        "KEY_PREFIX": "cache",
    },
    "ratelimit": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS_URL,
        "OPTIONS": REDIS_OPTIONS | {"IGNORE_EXCEPTIONS": True},
        "KEY_PREFIX": "ratelimit",
    },
}
SESSION_ENGINE = "config.sessions"

# Celery ----------------------------------------------------------------------------------------------------------

CELERY_BROKER_URL = paths.celery_url(REDIS_URL)
CELERY_RESULT_BACKEND = None
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_TIME_LIMIT = 600
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# Requests enqueue too, and do without a broker that is away: nobody waits for it.
CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_connect_timeout": 2, "max_retries": 0}
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE = SCHEDULE

METRICS_TOKEN = env("METRICS_TOKEN")

# Accounts --------------------------------------------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
PASSWORD_HASHERS = passwords.hashers()
AUTH_PASSWORD_VALIDATORS = passwords.validators(
    env_list("PASSWORD_VALIDATORS", "similarity,length,common,numeric"), min_length=env_int("PASSWORD_MIN_LENGTH", 10)
)
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
REQUIRE_OPERATOR_2FA = env_bool("REQUIRE_OPERATOR_2FA")
# Wrong passwords, counted in the database: a flushed Redis must not end a lock. `accounts.sign_in` says what is locked.
AXES_HANDLER = "axes.handlers.database.AxesDatabaseHandler"
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = env_int("LOGIN_FAILURE_LIMIT", 10, least=1)
AXES_COOLOFF_TIME = timedelta(minutes=env_int("LOGIN_COOLOFF_MINUTES", 15, least=1))
AXES_RESET_ON_SUCCESS = True
# Trying on must not make a lock longer, or whoever knows an address could shut its owner out for good.
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_USERNAME_FORM_FIELD = "username"
AXES_USERNAME_CALLABLE = "accounts.sign_in.counted_name"
AXES_CLIENT_IP_CALLABLE = "accounts.authentication.client_ip"
AXES_SENSITIVE_PARAMETERS = ["username", "password", "csrfmiddlewaretoken"]
# The audit events say who signed in; a list of failures by address is nothing to browse.
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = AXES_VERBOSE = False
# It only turns locks into answers, which config/errors.py does here.
SILENCED_SYSTEM_CHECKS = ["axes.W002"]
# How long a Redis snapshot of a key or user is believed when nothing drops it before.
AUTH_SNAPSHOT_SECONDS = 60
RATELIMIT_REGISTRATION = env_rate("RATELIMIT_REGISTRATION", "20/m")
RATELIMIT_TOKEN = env_rate("RATELIMIT_TOKEN", "30/m")
RATELIMIT_RESET = env_rate("RATELIMIT_RESET", "10/m")
# What one address may ask without credentials, over all views together.
RATELIMIT_ANONYMOUS = env_rate("RATELIMIT_ANONYMOUS", "300/m")
# Links to saved prompts that one address may open.
RATELIMIT_SHARED = env_rate("RATELIMIT_SHARED", "60/m")
# What one address may tell us by webhooks: few machines send those of all customers.
RATELIMIT_WEBHOOK = env_rate("RATELIMIT_WEBHOOK", "6000/m")
RATELIMIT_IP_META_KEY = "REMOTE_ADDR"
RATELIMIT_USE_CACHE = "ratelimit"
# What cannot be counted is let in: without Redis nobody could sign in any more.
RATELIMIT_FAIL_OPEN = True

ACCESS_TOKEN_LIFETIME = timedelta(hours=env_int("JWT_EXPIRE_HOURS", 1))
SIMPLE_JWT = {
    "SIGNING_KEY": JWT_SECRET_KEY,
    "ALGORITHM": "HS256",
    "ACCESS_TOKEN_LIFETIME": ACCESS_TOKEN_LIFETIME,
    "REFRESH_TOKEN_LIFETIME": timedelta(days=env_int("JWT_REFRESH_DAYS", 14)),
    "USER_ID_FIELD": "id",
    # So that a token of another service that shares the secret is worth nothing here.
    "AUDIENCE": "mainstay",
    "ISSUER": "mainstay",
}

# Mail ------------------------------------------------------------------------------------------------------------

EMAIL_HOST = env("EMAIL_HOST")
EMAIL_PORT = env_int("EMAIL_PORT", 587)
EMAIL_HOST_USER = env("EMAIL_HOST_USER")
EMAIL_HOST_PASSWORD = env("EMAIL_HOST_PASSWORD")
EMAIL_USE_SSL = env_bool("EMAIL_USE_SSL")
EMAIL_USE_TLS = env_bool("EMAIL_USE_TLS", not EMAIL_USE_SSL)
if EMAIL_USE_TLS and EMAIL_USE_SSL:
    raise ImproperlyConfigured("EMAIL_USE_TLS and EMAIL_USE_SSL exclude each other: set one of them to false.")
EMAIL_TIMEOUT = 10
EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend" if EMAIL_HOST else "accounts.mail.FileBackend"
EMAIL_FILE_PATH = paths.MAIL_DIR
DEFAULT_FROM_EMAIL = env("DEFAULT_FROM_EMAIL", "Mainstay <mainstay@localhost>")
# Where the links in mails lead: to pages of ours, or to those of a product's own front end.
VERIFY_EMAIL_URL = (
    checked_link("VERIFY_EMAIL_URL", env("VERIFY_EMAIL_URL")) or f"{PUBLIC_URL}/verify-email?token={{token}}"
)
PASSWORD_RESET_URL = (
    checked_link("PASSWORD_RESET_URL", env("PASSWORD_RESET_URL")) or f"{PUBLIC_URL}/reset-password?token={{token}}"
)

# The road --------------------------------------------------------------------------------------------------------

MODELS_URL = env("MODELS_URL", "http://127.0.0.1:8011/v1")
# What embeds patterns of intents and prompts, until `reembed` puts another in its place; a public name of a model that
# answers vectors of 512 numbers.
EMBEDDING_MODEL = env("EMBEDDING_MODEL", "use-multilingual")
# A text that is classified or searched for waits this long for its vector; then its words decide.
EMBEDDING_SECONDS = env_int("EMBEDDING_SECONDS", 3, least=1)
# Output tokens held for a call that names no max_tokens, on a model that has no maximum of its own.
DEFAULT_OUTPUT_TOKENS = env_int("DEFAULT_OUTPUT_TOKENS", 1024)
# A whole call, first to last byte, may take this long; its hold lives a minute longer.
CALL_DEADLINE_SECONDS = env_int("CALL_DEADLINE_SECONDS", 600)
HOLD_GRACE_SECONDS = env_int("HOLD_GRACE_SECONDS", 60)
# Reservations that clients make over the API live this long unless they ask for less.
RESERVATION_SECONDS = env_int("RESERVATION_SECONDS", 900)
# Events, and the webhooks that told of them, are kept for so long.
EVENT_DAYS = env_int("EVENT_DAYS", 30, least=1)
# A deleted conversation can be restored for so long.
CONVERSATION_PURGE_DAYS = env_int("CONVERSATION_PURGE_DAYS", 30, least=0)
# Messages of older months are dropped, a month at a time. 0: none are.
MESSAGE_RETENTION_MONTHS = env_int("MESSAGE_RETENTION_MONTHS", 0, least=0)
# Endpoints are the operators', who may have receivers beside Mainstay. False: webhooks go to public addresses only.
WEBHOOK_PRIVATE_ADDRESSES = env_bool("WEBHOOK_PRIVATE_ADDRESSES", True)
MAX_BODY_BYTES = env_int("MAX_BODY_BYTES", 10 * 1024 * 1024)
MAX_JSON_DEPTH = env_int("MAX_JSON_DEPTH", 32)
# What the request history keeps of each body.
HISTORY_BYTES = env_int("HISTORY_BYTES", 8 * 1024)
# For so long an answer is kept with its Idempotency-Key, if it is not larger than that.
IDEMPOTENCY_HOURS = env_int("IDEMPOTENCY_HOURS", 24, least=1)
IDEMPOTENCY_BYTES = env_int("IDEMPOTENCY_BYTES", 4 * 1024 * 1024)
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES
FILE_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES

# Billing ---------------------------------------------------------------------------------------------------------

# More than one while the secret of the webhook is being changed.
STRIPE_WEBHOOK_SECRETS = env_list("STRIPE_WEBHOOK_SECRET")
# Without a key nothing can be bought, and everything else works.
STRIPE_SECRET_KEY = checked_stripe_key(env("STRIPE_SECRET_KEY"), STRIPE_WEBHOOK_SECRETS)
STRIPE_API_BASE = checked_url("STRIPE_API_BASE", env("STRIPE_API_BASE", "https://api.stripe.com"))
# How long a plan may still be used after a payment has failed.
BILLING_GRACE_DAYS = env_int("BILLING_GRACE_DAYS", 7, least=0)
# Where Stripe's pages send people back to.
BILLING_SUCCESS_URL = checked_url("BILLING_SUCCESS_URL", env("BILLING_SUCCESS_URL")) or PUBLIC_URL
BILLING_CANCEL_URL = checked_url("BILLING_CANCEL_URL", env("BILLING_CANCEL_URL")) or PUBLIC_URL
BILLING_RETURN_URL = checked_url("BILLING_RETURN_URL", env("BILLING_RETURN_URL")) or PUBLIC_URL

# API -------------------------------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.authentication.CallerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.permissions.ScopePermission"],
    "DEFAULT_THROTTLE_CLASSES": ["quotas.throttling.RateThrottle"],
    "DEFAULT_RENDERER_CLASSES": ["drf_orjson_renderer.renderers.ORJSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["config.parsers.StrictJSONParser"],
    "DEFAULT_FILTER_BACKENDS": ["accounts.filters.StrictFilterBackend"],
    "DEFAULT_PAGINATION_CLASS": "config.pagination.NewestFirstPagination",
    "DEFAULT_SCHEMA_CLASS": "config.schema.ScopedSchema",
    "EXCEPTION_HANDLER": "config.errors.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_METADATA_CLASS": None,
    "PAGE_SIZE": 50,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Mainstay",
    "DESCRIPTION": "The backend behind an AI product: accounts, quotas, a metered road to models, conversations.",
    "VERSION": "1.0.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "config.schema.add_openai_surface",
        "config.search_schema.add_searches",
    ],
    "ENUM_NAME_OVERRIDES": {
        "Resource": "quotas.meters.Resource",
        "Unit": "quotas.meters.Unit",
        "Period": "quotas.meters.Period",
        "RequestStatus": "inference.models.Request.Status",
        "ReservationStatus": "quotas.models.Reservation.Status",
    },
    "AUTHENTICATION_WHITELIST": ["accounts.authentication.CallerAuthentication"],
}

# Admin -----------------------------------------------------------------------------------------------------------

# Files that go out are guarded against spreadsheets' formulas by accounts.admin.transfer; this is the second bolt.
IMPORT_EXPORT_ESCAPE_FORMULAE_ON_EXPORT = True
UNFOLD = {
    "SITE_TITLE": "Mainstay",
    "SITE_HEADER": "Mainstay",
    "SITE_SUBHEADER": "Operators",
    "SITE_SYMBOL": "hub",
    "SITE_URL": None,
    "SITE_DROPDOWN": [{"icon": "api", "title": "API reference", "link": reverse_lazy("docs")}],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "DASHBOARD_CALLBACK": "analytics.dashboard.dashboard",
    "ACCOUNT": {
        "navigation": [
            {"title": "Two-factor sign-in", "link": reverse_lazy("admin:two_factor")},
            {"title": "Change password", "link": reverse_lazy("admin:password_change")},
        ]
    },
    "STYLES": [lambda _request: static("config/admin.css")],
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda _request: static("config/favicon.svg")}],
    "SIDEBAR": {
        "show_search": True,
        "navigation": NAVIGATION,
    },
}

# Files, language, logs -------------------------------------------------------------------------------------------

STATIC_URL = "/static/"
# Files are served from where the apps keep them: there is nothing to collect.
STATIC_ROOT = None
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = WHITENOISE_ALLOW_ALL_ORIGINS = False

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True
FORMAT_MODULE_PATH = ["config.formats"]

LOGGING_CONFIG = "logging.config.dictConfig"
LOGGING = logging_config(level=env("LOG_LEVEL", "INFO").upper())
