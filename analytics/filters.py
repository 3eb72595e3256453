from typing import ClassVar

from django_filters import rest_framework as filters

from prompts.models import TechniqueEffectiveness


class EffectivenessFilter(filters.FilterSet):  # type: ignore[misc]
    technique = filters.CharFilter(field_name="technique__slug", help_text="Its name.")

    class Meta:
        model = TechniqueEffectiveness
        fields: ClassVar = ["intent"]
