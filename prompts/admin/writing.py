"""Making templates and versions on pages. What they may say, the services decide."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.decorators import action
from unfold.widgets import INPUT_CLASSES, SELECT_CLASSES, TEXTAREA_CLASSES, UnfoldAdminTextInputWidget

from accounts.admin.base import HistoryAdmin, operator
from accounts.exceptions import DomainError
from prompts import templates
from prompts.admin.version_draft import Draft
from prompts.exceptions import TemplateError
from prompts.models import PromptTemplate
from prompts.template_serializers import MOST_TAGS

PAGES = "admin/prompts/prompttemplate/version"
# Of a preview that changes as somebody types; everything else is a form that is sent.
LIVE = "preview"
MOST_COMMIT_MESSAGE = 500


class NewTemplateForm(forms.ModelForm):  # type: ignore[type-arg]
    tags = forms.CharField(
        required=False,
        max_length=MOST_TAGS * 52,
        widget=UnfoldAdminTextInputWidget,
        help_text="With commas between them.",
    )

    class Meta:
        model = PromptTemplate
        fields: ClassVar = ["name", "user", "description", "tags", "is_shared"]
        labels: ClassVar = {"user": "Owner", "is_shared": "Shared"}
        help_texts: ClassVar = {
            "name": "What calls name: small letters, digits, dots, - and _. It stays as it is.",
            "user": "Whose templates it is among, and who changes it with a key of their own.",
            "is_shared": "Everybody can read and use it.",
        }

    def clean_tags(self) -> list[str]:
        tags = list(dict.fromkeys(tag.strip() for tag in self.cleaned_data["tags"].split(",") if tag.strip()))
        if len(tags) > MOST_TAGS or any(len(tag) > 50 for tag in tags):
            raise ValidationError(f"There are at most {MOST_TAGS} tags, of at most 50 characters each.")
        return tags

    def clean(self) -> dict[str, Any]:
        """The service finds out, too, but then the form is gone."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        same = PromptTemplate.objects.alive().filter(name=cleaned.get("name"))
        if same.filter(user=cleaned.get("user")).exists() or (
            cleaned.get("is_shared") and same.filter(is_shared=True).exists()
        ):
            self.add_error("name", "There is a template of this name.")
        return cleaned


class WritingAdmin(HistoryAdmin):
    add_fieldsets = ((None, {"fields": ("name", "user", "description", "tags", "is_shared")}),)
    autocomplete_fields = ("user",)

    # Templates

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("prompts.add_prompttemplate"))

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(request, obj, change=change, **kwargs | ({} if obj else {"form": NewTemplateForm}))

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"user": request.user.pk, **super().get_changeform_initial_data(request)}

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {"show_save_and_add_another": False, "show_save_and_continue": False, **(extra_context or {})}
        answer: HttpResponse = super().add_view(request, form_url, context)
        return answer

    def save_model(
        self, request: HttpRequest, obj: PromptTemplate, form: ModelForm[PromptTemplate], change: bool
    ) -> None:
        fields = dict(form.cleaned_data)
        owner = fields.pop("user")
        obj.pk = templates.create_template(by=operator(request), owner_id=owner.pk, **fields).pk

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """The service has written all there is, and its audit event."""

    def response_add(self, request: HttpRequest, obj: PromptTemplate, post_url_continue: str | None = None) -> Any:
        """A template says nothing yet: on to its first version."""
        return HttpResponseRedirect(reverse("admin:prompts_prompttemplate_new_version", args=[obj.pk]))

    # Versions

    @action(description="New version", icon="edit_note", permissions=["operate"])
    def new_version(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The page on which a version is written, beginning with the last one, or with that of `?from=`."""
        template: PromptTemplate = self.find(request, object_id)
        if request.method != "POST":
            return self._version_page(request, template, Draft.of(_begun_with(template, request.GET.get("from", ""))))
        draft = Draft.posted(request.POST)
        if LIVE in request.POST:
            return _live_preview(template, draft)
        if len(draft.commit_message) > MOST_COMMIT_MESSAGE:
            draft.errors["commit_message"] = f"At most {MOST_COMMIT_MESSAGE} characters."
            return self._version_page(request, template, draft)
        try:
            version = templates.add_version(
                template=template,
                by=operator(request),
                content=draft.content,
                variables=draft.declarations,
                commit_message=draft.commit_message,
            )
        except TemplateError as refusal:
            draft.refuse(refusal)
            return self._version_page(request, template, draft)
        self.message_user(request, f"Version {version.number} is made. No label stands for it yet.")
        return HttpResponseRedirect(reverse("admin:prompts_prompttemplate_change", args=[template.pk]))

    def _version_page(self, request: HttpRequest, template: PromptTemplate, draft: Draft) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "original": template,
            "title": f"New version of {template.name}",
            "heading": f"Version {template.latest_version + 1}",
            "draft": draft,
            **draft.rows(),
            **_previewed(template, draft),
            "input_classes": " ".join(INPUT_CLASSES),
            "select_classes": " ".join(SELECT_CLASSES),
            "textarea_classes": " ".join(TEXTAREA_CLASSES),
        }
        return TemplateResponse(request, f"{PAGES}.html", context)


def _begun_with(template: PromptTemplate, wanted: str) -> Any:
    number = int(wanted) if wanted.isdecimal() and len(wanted) < 10 else template.latest_version
    return template.versions.filter(number=number).first()


def _previewed(template: PromptTemplate, draft: Draft) -> dict[str, Any]:
    """The messages, or why there are none."""
    if not draft.content:
        return {}
    try:
        shown = templates.preview(template=template, content=draft.content, variables=draft.declarations)
    except DomainError as refusal:
        return {"refusal": refusal}
    return {"shown": shown}


def _live_preview(template: PromptTemplate, draft: Draft) -> HttpResponse:
    return JsonResponse({"preview": render_to_string(f"{PAGES}_preview.html", _previewed(template, draft))})
