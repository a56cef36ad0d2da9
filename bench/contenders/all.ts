import type { Contender } from './contender.ts';
import { haproxy } from './haproxy.ts';
import { nginxAuthRequest, nginxAuthRequestCached, nginxLua, nginxStatic } from './nginx.ts';
import { express, expressWithVersion3, fastify, tcpPassThrough, undiciPassThrough } from './node.ts';
import { tollgateBehindNginx, tollgateFastLane, tollgateNodeHttp } from './tollgate.ts';

/**
 * Everyone, in the order of the tables. They run in this order, too, so that those which are compared run soon after each other:
 * what else a machine does changes from minute to minute.
 */
export const CONTENDERS: readonly Contender[] = [
  haproxy,
  nginxStatic,
  tollgateFastLane,
  nginxLua,
  nginxAuthRequestCached,
  nginxAuthRequest,
  tollgateNodeHttp,
  undiciPassThrough,
  fastify,
  express,
  expressWithVersion3,
  tcpPassThrough,
  tollgateBehindNginx,
];
