// The least a Node proxy that speaks HTTP can do: node:http in front, undici behind, no work between. All headers go
// both ways in raw form, and a small answer goes out in one write.
import { createServer } from 'node:http';
// Tollgate's own undici, not the one that fastify brings along.
import { Pool } from '../../node_modules/undici/index.js';

const [, , port, upstream] = process.argv;
const pool = new Pool(`http://${upstream}`, { connections: 512 });

class Forwarding {
  constructor(response) {
    this.response = response;
    this.body = '';
  }
  onRequestStart() {}
  onResponseStart(controller, status) {
    const headers = controller.rawHeaders.map((header) => header.toString('latin1'));
    this.response.writeHead(status, headers);
  }
  onResponseData(_controller, chunk) {
    this.body += chunk.latin1Slice(0, chunk.length);
  }
  onResponseEnd() {
    this.response.end(this.body, 'latin1');
  }
  onResponseError() {
    this.response.destroy();
  }
}

const server = createServer((request, response) => {
  const headers = [];
  const { rawHeaders } = request;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (rawHeaders[i].toLowerCase() !== 'connection') headers.push(rawHeaders[i], rawHeaders[i + 1]);
  }
  pool.dispatch({ path: request.url, method: request.method, headers }, new Forwarding(response));
});
server.listen(Number(port), '127.0.0.1');
process.on('SIGTERM', () => process.exit(0));
