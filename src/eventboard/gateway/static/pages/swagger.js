const page = document.getElementById("explorer");

SwaggerUIBundle({
  domNode: page,
  url: page.dataset.openapi,
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: true,
  tryItOutEnabled: true,
  validatorUrl: null, // the badge would send the document's address to another host
});
