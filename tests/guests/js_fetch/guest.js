// The style of service workers: a listener of the fetch event answers with a Response.
addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const { pathname } = new URL(request.url);
  if (pathname === "/echo") {
    return new Response(request.body, { headers: { "content-type": request.headers.get("content-type") ?? "" } });
  }
  if (pathname.startsWith("/sum/")) {
    let sum = 0;
    for (let i = 0; i < Number(pathname.slice(5)); i++) sum = (sum + i * i) % 1000003;
    return new Response(`${sum}\n`);
  }
  return new Response("Hello from a fetch event!\n", { headers: { "content-type": "text/plain" } });
}
