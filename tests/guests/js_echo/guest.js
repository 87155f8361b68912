// Streams the request's body into the response's, one chunk at a time.
import { Fields, OutgoingBody, OutgoingResponse, ResponseOutparam } from "wasi:http/types@0.2.12";

const CHUNK = 65536n;

function writeAll(stream, chunk) {
  const writable = stream.subscribe();
  while (chunk.length) {
    const room = Number(stream.checkWrite());
    if (room === 0) {
      writable.block();
      continue;
    }
    stream.write(chunk.subarray(0, room));
    chunk = chunk.subarray(room);
  }
  writable[Symbol.dispose]();
}

export const incomingHandler = {
  handle(request, responseOut) {
    const types = request.headers().get("content-type").map((value) => ["content-type", value]);
    const incoming = request.consume();
    const source = incoming.stream();
    const response = new OutgoingResponse(Fields.fromList(types));
    const body = response.body();
    ResponseOutparam.set(responseOut, { tag: "ok", val: response });
    const sink = body.write();
    for (;;) {
      let chunk;
      try {
        chunk = source.blockingRead(CHUNK);
      } catch (error) {
        if (error.payload?.tag === "closed") break;
        throw error;
      }
      writeAll(sink, chunk);
    }
    sink.blockingFlush();
    sink[Symbol.dispose]();
    source[Symbol.dispose]();
    OutgoingBody.finish(body, undefined);
  },
};
