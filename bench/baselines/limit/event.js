// What both servers share: where their database is, and what a row is called in JSON.
export function read() {
  const url = new URL(process.env.BENCH_DATABASE_URL.replace("@/", "@socket/"));
  const socket = `${url.searchParams.get("host")}/.s.PGSQL.${url.searchParams.get("port")}`;
  return {
    database: { path: socket, username: url.username, database: url.pathname.slice(1) },
    port: Number(process.env.BENCH_LIMIT_PORT),
    organization: process.env.BENCH_ORGANIZATION,
  };
}

export const event = (row) => ({
  id: row.id,
  title: row.title,
  description: row.description,
  location: row.location,
  startDate: row.start_date,
  endDate: row.end_date,
  timeZone: row.time_zone,
  status: row.status,
  rejectionReason: row.rejection_reason,
  organizationId: row.organization_id,
  createdById: row.created_by_id,
  createdByName: row.created_by_name,
  createdAt: row.created_at,
  updatedAt: row.updated_at,
  version: row.version,
});
