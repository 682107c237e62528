"""Parts of the page Lessons: texts and recorded runs."""
