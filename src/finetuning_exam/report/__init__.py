"""Results for people (terminal, report.html, model card) and for programs (exam.json)."""
