"""The sidebar: controls of a run and of a comparison, share and export."""
