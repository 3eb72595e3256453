from accounts.routers import OptionalSlashRouter
from prompts import views

router = OptionalSlashRouter()
router.register("prompts/saved", views.SavedPromptViewSet, basename="saved-prompt")

urlpatterns = router.urls
