// One event by its key: Fastify and postgres.js, as their documentation teaches. No token, no rights, no log.
import Fastify from "fastify";
import postgres from "postgres";
import { event, read } from "./event.js";

const { database, port, organization } = read();
const sql = postgres({ ...database, max: 20 });
const app = Fastify();

app.get("/events/:id", async (request, reply) => {
  const [row] = await sql`
    SELECT id, title, description, location, start_date, end_date, time_zone, status, rejection_reason, organization_id,
      created_by_id, created_by_name, created_at, updated_at, version
    FROM events.events WHERE organization_id = ${organization} AND id = ${request.params.id}`;
  return row === undefined ? reply.code(404).send({}) : event(row);
});

await app.listen({ host: "127.0.0.1", port });
