"""The operator's side: ``switchgear dr`` switches the regions that DNS-switched AWS IoT domains point to."""
