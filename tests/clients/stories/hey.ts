// The story, told by the client that @hey-api/openapi-ts generates.
import { approveEvent, createEvent, listEvents, login, signup, submitEvent } from "./client/index.js";
import { client } from "./client/client.gen.js";
import type { EventDraft, Problem } from "./client/index.js";
import { url } from "./url.js";

function check(holds: boolean, what: unknown): asserts holds {
  if (!holds) throw new Error(JSON.stringify(what));
}

const email = `${crypto.randomUUID()}@example.org`;
const password = "a long and quiet password";

client.setConfig({ baseUrl: url });
const signedUp = await signup({
  body: { email, password, firstName: "Ada", lastName: "Archer", organizationName: crypto.randomUUID() },
});
check(signedUp.data?.user.email === email, signedUp.error);

const session = await login({ body: { email, password } });
check(session.data !== undefined, session.error);
client.setConfig({ baseUrl: url, auth: session.data.accessToken });

const draft: EventDraft = {
  title: "Chess night",
  description: "Bring a board and a friend.",
  startDate: "2027-03-01T18:00:00Z",
  endDate: "2027-03-01T21:00:00Z",
};
const created = await createEvent({ body: draft, headers: { "Idempotency-Key": crypto.randomUUID() } });
check(created.data?.status === "DRAFT" && created.data.location === null, created.error);
const path = { id: created.data.id };

const submitted = await submitEvent({ path });
const tag = submitted.response?.headers.get("etag") ?? null;
check(tag !== null, submitted.error);

const late = await approveEvent({ path, headers: { "If-Match": '"1"' } });
const problem: Problem | undefined = late.error;
check(late.response?.status === 412 && problem?.code === "version-changed", late.data);
check(problem.errors === undefined, problem);

const approved = await approveEvent({ path, headers: { "If-Match": tag } });
check(approved.data?.status === "APPROVED", approved.error);

const page = await listEvents({ query: { status: "APPROVED", limit: 5 } });
check(page.data?.data[0]?.id === path.id && page.data.meta.nextCursor === null, page.error);

const wrong = await createEvent({ body: { ...draft, title: "ab", description: "short" } });
const pointers = wrong.error?.errors?.map((error) => error.pointer);
check(pointers?.join() === "/title,/description", wrong);
