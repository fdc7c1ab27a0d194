"""The catalogue of queuekit's guarantees, and what runs it against a driver.

`pytest -p queuekit_integration` loads the plugin.
"""

pytest_plugins = ["queuekit_integration.plugin"]
