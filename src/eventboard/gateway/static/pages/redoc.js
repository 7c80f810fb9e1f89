import { init } from "../redoc/redoc.standalone.js";

const page = document.getElementById("explorer");
const answer = await fetch(page.dataset.openapi);

// Given the document itself and no address, Redoc leaves out its buttons that hand the address to AI chats.
init(await answer.json(), { disableTelemetry: true }, page);
