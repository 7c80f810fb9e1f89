const page = document.getElementById("explorer");
const here = window.location.origin;

Scalar.createApiReference(page, {
  url: page.dataset.openapi,
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
