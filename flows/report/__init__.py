"""What a build found out: ``report.json``, ``report.html`` and the recorded results."""
