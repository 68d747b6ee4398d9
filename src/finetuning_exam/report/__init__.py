"""Results for people: the terminal, report.html, the model card; and exam.json for programs."""
