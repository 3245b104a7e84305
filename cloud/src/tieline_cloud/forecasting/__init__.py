"""Training, backtesting and issuing of load forecasts; heavy libraries are imported where they are used."""
