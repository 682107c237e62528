// The way to the server: a WebSocket; where none is served, the page polls and messages go through Streamlit.

import { readPacket } from "../shared/packet.js";
import { Reconnecting } from "../shared/socket.js";

const FINAL = {
  4404: "This run is no longer on the server. Start a new one.",
  4429: "Too many windows are watching this run already.",
};

export class Link {
  constructor(run, path, { onPacket, onFault, onGone, onPoll, trigger, cursor }) {
    Object.assign(this, { run, onPacket, onPoll, trigger, socket: null });
    if (!path) {
      this.poll();
      return;
    }
    this.socket = new Reconnecting(() => `${path}?from=${cursor()}`, {
      onMessage: ({ error }) => onFault(error),
      onBytes: (data) => {
        this.socket.send({ type: "shown" });
        if (!onPacket(readPacket(data))) this.socket.send({ type: "resync" });
      },
      onFinal: (code) => {
        if (code in FINAL) onGone(FINAL[code]);
        return code in FINAL;
      },
      onLost: () => this.poll(),
    });
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
    if (this.socket) this.socket.send(message);
    else this.trigger("control", { ...message, n: Math.random() });
  }

  close() {
    this.socket?.close();
    if (this.listener) window.removeEventListener("e2crf-news", this.listener);
  }
}
