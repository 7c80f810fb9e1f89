// One event by its key: Bun's own server and PostgreSQL client, as their documentation teaches. No token, no rights, no log.
import { SQL } from "bun";
import { event, read } from "./event.js";

const { database, port, organization } = read();
const sql = new SQL({ ...database, adapter: "postgres", max: 20 });

Bun.serve({
  hostname: "127.0.0.1",
  port,
  routes: {
    "/events/:id": async (request) => {
      const [row] = await sql`
        SELECT id, title, description, location, start_date, end_date, time_zone, status, rejection_reason,
          organization_id, created_by_id, created_by_name, created_at, updated_at, version
        FROM events.events WHERE organization_id = ${organization} AND id = ${request.params.id}`;
      return row === undefined ? Response.json({}, { status: 404 }) : Response.json(event(row));
    },
  },
});
