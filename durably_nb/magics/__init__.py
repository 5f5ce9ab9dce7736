"""The magics: ``%durably``, ``%runs``, ``%events``, ``%watch``, ``%cancel`` and ``%%job``."""
