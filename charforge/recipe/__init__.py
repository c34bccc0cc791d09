"""The recipe of the embedded base: ``python -m charforge.recipe --help``. Every stage resumes and writes its log."""
