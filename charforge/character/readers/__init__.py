"""Conversations and lorebooks in the formats that people bring, one file for each family of formats."""
