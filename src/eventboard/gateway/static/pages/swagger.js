import { documentWith } from "./document.js";

const page = document.getElementById("explorer");

SwaggerUIBundle({
  domNode: page,
  spec: await documentWith(
    page,
    "**Try it here:** open **Log in**, press *Execute*, copy the `accessToken` of the answer, and give it to " +
      "*Authorize*, which keeps it for all calls.",
  ),
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: true,
  tryItOutEnabled: true,
  validatorUrl: null, // the badge would send the document's address to another host
});
