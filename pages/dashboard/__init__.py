"""The live charts as a component: its Python side, and its scripts in js/."""
