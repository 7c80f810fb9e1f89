import { documentWith } from "./document.js";

const page = document.getElementById("explorer");
const here = window.location.origin;

Scalar.createApiReference(page, {
  content: await documentWith(
    page,
    "**Try it here:** open **Log in**, press *Test Request* and *Send*, copy the `accessToken` of the answer, and " +
      "give it to *Authentication* as the *Bearer Token*, which keeps it for all calls.",
  ),
  persistAuth: true,
  // Everything that would reach another host is off, and what can't be switched off is pointed here.
  agent: { disabled: true },
  mcp: { disabled: true },
  telemetry: false,
  withDefaultFonts: false,
  hideClientButton: true,
  showDeveloperTools: "never",
  externalUrls: { dashboardUrl: here, registryUrl: here, proxyUrl: here, apiBaseUrl: here },
});
