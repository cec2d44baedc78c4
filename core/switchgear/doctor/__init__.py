"""What ``switchgear doctor`` does: look at every layer between an application and its brokers, and say what is wrong."""

from switchgear.doctor.asking import Asker, SystemAnswer, system_lookup
from switchgear.doctor.examination import Wishes, examine
from switchgear.doctor.finding import Finding, Report, Verdict

__all__ = ["Asker", "Finding", "Report", "SystemAnswer", "Verdict", "Wishes", "examine", "system_lookup"]
