import pytest
from quotas.models import Plan
@pytest.mark.django_db(transaction=True)
def test_a(): assert Plan.objects.count() == 3
@pytest.mark.django_db(transaction=True)
def test_b(): assert Plan.objects.count() == 3
def test_c(transactional_db): assert Plan.objects.count() == 3
def test_d(db): assert Plan.objects.count() == 3
