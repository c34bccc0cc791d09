"""The recipe of the embedded base: ``python -m charforge.mini --help``. Every stage resumes and writes its log."""
