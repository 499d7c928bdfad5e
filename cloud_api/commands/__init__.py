"""The commands of `carrel-cloud`, a module per noun; `cloud_api.cli` puts them together."""
