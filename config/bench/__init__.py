"""Measurements that `manage.py bench` takes, each in an installation of its own that is gone afterwards."""
