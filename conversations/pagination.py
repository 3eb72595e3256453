from rest_framework.pagination import CursorPagination


class LatestFirstPagination(CursorPagination):
    """Messages of a conversation, newest first, in the order in which they were said."""

    ordering = "-sequence"
    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200
