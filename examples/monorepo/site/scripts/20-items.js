// fills the catalog
async function items(tag) {
  const answer = await fetch(`/cgi-bin/items?tag=${tag}`);
  return answer.json();
}
