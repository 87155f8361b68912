// One header, one line of body.
import { Fields, OutgoingBody, OutgoingResponse, ResponseOutparam } from "wasi:http/types@0.2.12";

export const incomingHandler = {
  handle(request, responseOut) {
    const text = (string) => new TextEncoder().encode(string);
    const response = new OutgoingResponse(Fields.fromList([["content-type", text("text/plain")]]));
    const body = response.body();
    ResponseOutparam.set(responseOut, { tag: "ok", val: response });
    const stream = body.write();
    stream.blockingWriteAndFlush(text("Hello from JavaScript!\n"));
    stream[Symbol.dispose]();
    OutgoingBody.finish(body, undefined);
  },
};
