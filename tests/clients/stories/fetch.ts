// The story, told by openapi-fetch with the types that openapi-typescript generates.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";
import { url } from "./url.js";

type Problem = components["schemas"]["Problem"];

function check(holds: boolean, what: unknown): asserts holds {
  if (!holds) throw new Error(JSON.stringify(what));
}

const email = `${crypto.randomUUID()}@example.org`;
const password = "a long and quiet password";

const anybody = createClient<paths>({ baseUrl: url });
const signedUp = await anybody.POST("/auth/signup", {
  body: { email, password, firstName: "Ada", lastName: "Archer", organizationName: crypto.randomUUID() },
});
check(signedUp.data?.user.email === email, signedUp.error);

const session = await anybody.POST("/auth/login", { body: { email, password } });
check(session.data !== undefined, session.error);
const client = createClient<paths>({
  baseUrl: url,
  headers: { authorization: `Bearer ${session.data.accessToken}` },
});

const draft: components["schemas"]["EventDraft"] = {
  title: "Chess night",
  description: "Bring a board and a friend.",
  startDate: "2027-03-01T18:00:00Z",
  endDate: "2027-03-01T21:00:00Z",
};
const created = await client.POST("/events", {
  params: { header: { "Idempotency-Key": crypto.randomUUID() } },
  body: draft,
});
check(created.data?.status === "DRAFT" && created.data.location === null, created.error);
const path = { id: created.data.id };

const submitted = await client.POST("/events/{id}/submit", { params: { path } });
const tag = submitted.response.headers.get("etag");
check(tag !== null, submitted.error);

const late = await client.POST("/events/{id}/approve", { params: { path, header: { "If-Match": '"1"' } } });
const problem: Problem | undefined = late.error;
check(late.response.status === 412 && problem?.code === "version-changed", late.data);
check(problem.errors === undefined, problem);

const approved = await client.POST("/events/{id}/approve", { params: { path, header: { "If-Match": tag } } });
check(approved.data?.status === "APPROVED", approved.error);

const page = await client.GET("/events", { params: { query: { status: "APPROVED", limit: 5 } } });
check(page.data?.data[0]?.id === path.id && page.data.meta.nextCursor === null, page.error);

const wrong = await client.POST("/events", { body: { ...draft, title: "ab", description: "short" } });
const pointers = wrong.error?.errors?.map((error) => error.pointer);
check(pointers?.join() === "/title,/description", wrong);
