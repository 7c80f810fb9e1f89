"""The main job, whole."""

from tests.support.board import Organization


def test_draft_submit_approve_list(organization: Organization) -> None:
    """A member's draft becomes, through submission and approval, what every other member sees on the list."""
    event = organization.user.create(title="Summer party")
    assert event["status"] == "DRAFT"
    assert organization.user.command(event, "submit").json()["status"] == "SUBMITTED"
    assert organization.moderator.command(event, "approve").json()["status"] == "APPROVED"
    listed = organization.other.http.get("/events").json()["data"]
    assert [item["id"] for item in listed] == [event["id"]]
