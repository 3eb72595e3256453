from rest_framework.pagination import CursorPagination


class NewestFirstPagination(CursorPagination):
    """`{"next", "previous", "results"}`, newest first: ids are time-ordered."""

    ordering = "-id"
    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200
