// A proxy that can cut the stream that answers a call.

import http from 'node:http';

// cutting starts a proxy in front of a URL. It sends each request on a connection of its own. If cutsNext is true, it cuts the next stream of a call after its
// first message, counts it in cuts, and sets cutsNext to false.
export async function cutting(target) {
  const between = { cutsNext: false, cuts: 0 };
  const server = http.createServer((request, response) => {
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks);
      const isCut = between.cutsNext && body.includes('"tools/call"');
      if (isCut) between.cutsNext = false;
      const { host, connection, ...headers } = request.headers; // those of the connection to the proxy
      const forwarded = http.request(new URL(request.url, target), { method: request.method, headers, agent: false }, (answer) => {
        response.writeHead(answer.statusCode, { ...answer.headers, connection: 'close' });
        response.flushHeaders();
        answer.on('data', (chunk) => {
          const cuts = isCut && chunk.includes('"method"') && !chunk.includes('"result"');
          if (cuts) between.cuts++;
          response.write(chunk, () => { if (cuts) response.destroy(); });
          if (cuts) answer.pause();
        });
        answer.on('end', () => response.end());
        answer.on('error', () => response.destroy());
      });
      forwarded.on('error', () => response.destroy());
      response.on('close', () => forwarded.destroy());
      forwarded.end(body);
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  server.unref(); // it ends with the program
  between.url = `http://127.0.0.1:${server.address().port}${new URL(target).pathname}`;
  return between;
}
