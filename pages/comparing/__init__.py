"""The Compare page's parts: what a visitor compares, and the controls in the sidebar."""
