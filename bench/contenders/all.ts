import type { Contender } from './contender.ts';
import { haproxy } from './haproxy.ts';
import { nginxAuthRequest, nginxAuthRequestCached, nginxLua, nginxStatic } from './nginx.ts';
import { express, expressWithVersion3, fastify, tcpPassThrough, undiciPassThrough } from './node.ts';
import { tollgateBehindNginx, tollgateFastLane, tollgateNodeHttp } from './tollgate.ts';

/** Everyone, in the order of the tables. */
export const CONTENDERS: readonly Contender[] = [
  nginxStatic,
  haproxy,
  nginxLua,
  nginxAuthRequestCached,
  nginxAuthRequest,
  fastify,
  express,
  expressWithVersion3,
  tcpPassThrough,
  undiciPassThrough,
  tollgateNodeHttp,
  tollgateFastLane,
  tollgateBehindNginx,
];
