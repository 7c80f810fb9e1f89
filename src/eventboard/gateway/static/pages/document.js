// The document, introduced by how to use this explorer.
export async function documentWith(page, introduction) {
  const answer = await fetch(page.dataset.openapi);
  const document = await answer.json();
  const yaml = page.dataset.openapi.replace(/json$/, "yaml");
  document.info.description +=
    `\n${introduction}\n\nThe document itself: [JSON](${page.dataset.openapi}), [YAML](${yaml}).\n`;
  return document;
}
