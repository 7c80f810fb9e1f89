import { init } from "../redoc/redoc.standalone.js";
import { documentWith } from "./document.js";

const page = document.getElementById("explorer");

// Given the document itself and no address, Redoc leaves out its buttons that hand the address to AI chats.
init(
  await documentWith(
    page,
    "This page is for reading. Calls can be tried in [Swagger UI](swagger) and in [Scalar](scalar).",
  ),
  { disableTelemetry: true },
  page,
);
