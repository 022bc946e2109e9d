"""The report: a document as values, its page, its PDF, and the files that go with it."""
