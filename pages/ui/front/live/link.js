// The way to the server: a WebSocket; where none is served, the page polls and messages go through Streamlit.

import { readPacket } from "../shared/packet.js";

const SOCKET_TRIES = 3;

export class Link {
  constructor(run, path, { onPacket, onFault, onGone, onPoll, trigger, cursor }) {
    Object.assign(this, {
      run,
      path,
      onPacket,
      onFault,
      onGone,
      onPoll,
      trigger,
      cursor,
      tries: 0,
      closed: false,
      socket: null,
    });
    if (path) this.connect();
    else this.poll();
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}${this.path}?from=${this.cursor()}`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.tries = 0;
    };
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") {
        this.onFault(JSON.parse(data).error);
        return;
      }
      socket.send('{"type":"shown"}');
      if (!this.onPacket(readPacket(data))) socket.send('{"type":"resync"}');
    };
    socket.onclose = ({ code }) => {
      if (this.closed) return;
      if (code === 4404) {
        this.closed = true;
        this.onGone("This run is no longer on the server. Start a new one.");
        return;
      }
      if (code === 4429) {
        this.closed = true;
        this.onGone("Too many windows are watching this run already.");
        return;
      }
      this.tries += 1;
      if (this.tries >= SOCKET_TRIES) this.poll();
      else
        setTimeout(() => {
          if (!this.closed) this.connect();
        }, 250 * this.tries);
    };
    this.socket = socket;
  }

  poll() {
    this.socket = null;
    this.listener = ({ detail }) => {
      const packet = readPacket(detail);
      if (packet.head.run === this.run && !this.onPacket(packet))
        this.trigger("control", { type: "resync", n: Math.random() });
    };
    window.addEventListener("e2crf-news", this.listener);
    this.onPoll();
  }

  send(message) {
    if (this.socket) {
      if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
    } else this.trigger("control", { ...message, n: Math.random() });
  }

  close() {
    this.closed = true;
    if (this.socket) this.socket.close();
    if (this.listener) window.removeEventListener("e2crf-news", this.listener);
  }
}
