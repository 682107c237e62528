"""Parts of the page Ask: series, questions, answers, and their judgment on held-out windows."""
