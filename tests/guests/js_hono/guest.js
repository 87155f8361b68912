// A web framework on the fetch event.
import { Hono } from "hono";

const app = new Hono();
app.get("/", (c) => c.text("Hello from Hono!\n"));
app.get("/items/:id", (c) => c.json({ id: c.req.param("id"), query: c.req.query("q") ?? null }));
app.post("/echo", (c) => c.body(c.req.raw.body));
app.fire();
