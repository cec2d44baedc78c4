"""The regions' data planes, as one run sees them: clients of iot-data, probes, sightings. Opens connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from switchgear_iot_dns.dr.errors import AwsTrouble
from switchgear_iot_dns.dr.sightings import ConnectionSightings, PresenceSightings

if TYPE_CHECKING:
    from switchgear_iot_dns.dr.aws import Aws
    from switchgear_iot_dns.dr.pacing import Pacer
    from switchgear_iot_dns.dr.plan import Plan
    from switchgear_iot_dns.dr.settings import Settings
    from switchgear_iot_dns.dr.sightings import Sightings
    from switchgear_iot_dns.dr.state import Victim

PROBE: Final = "-switchgear-dr-probe"
"""What is put behind a client's id to name one that does not exist."""


class Regions:
    """The data planes that *plan* names the endpoints of."""

    def __init__(self, plan: Plan, settings: Settings, aws: Aws, pacer: Pacer) -> None:
        self._plan = plan
        self._settings = settings
        self._aws = aws
        self._pacer = pacer

    def data(self, region: str, *, is_patient: bool = False) -> Any:
        """The iot-data client of *region*; see `Aws.client`."""
        endpoint = self._plan.endpoints.get(region)
        return self._aws.client("iot-data", region, endpoint=endpoint, is_patient=is_patient)

    def unanswered(self, victim: Victim) -> str | None:
        """Why nobody can be disconnected in *victim*'s region; None when they can.

        It asks to disconnect a client that does not exist, and that is named like *victim*, so that a policy for such
        names holds for it too.

        Raises:
            MissingPermission: the operator may not disconnect *victim*.
        """
        probe = victim.client_id[: 128 - len(PROBE)] + PROBE
        try:
            self._aws.call(self.data(victim.source), "delete_connection", clientId=probe, preventWillMessage=True)
        except AwsTrouble as error:
            return error.why if error.is_silence else None
        return None

    def sightings(self) -> Sightings:
        """What looks where clients are: the events of `dr watch` where all ids come from them, else GetConnection."""
        sources = [self._settings.domains[move.domain].clients for move in self._plan.leading]
        files = {clients.file for clients in sources}
        if len(files) == 1 and all(clients.source == "presence" for clients in sources):
            return PresenceSightings(str(files.pop()))
        return ConnectionSightings(self.data, self._aws, lambda region: self._pacer.take(("look", region)))
