"""What several pages share: charts, components, downloads, query parameters."""
