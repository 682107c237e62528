// A WebSocket of this server that is opened again when it breaks; after some tries in vain it is given up.

const TRIES = 3;
const WAIT_MS = 250;

export class Reconnecting {
  // `path()` gives the path at each try, `onFinal(code)` says whether a close is meant, and `onLost` ends the tries.
  constructor(path, { onOpen = () => {}, onMessage, onBytes, onFinal = () => false, onLost }) {
    Object.assign(this, { path, onOpen, onMessage, onBytes, onFinal, onLost, tries: 0, closed: false });
    this.connect();
  }

  get open() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}${this.path()}`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.tries = 0;
      this.onOpen();
    };
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") this.onMessage(JSON.parse(data));
      else this.onBytes(data);
    };
    socket.onclose = ({ code }) => {
      if (this.closed) return;
      if (this.onFinal(code)) {
        this.closed = true;
        return;
      }
      this.tries += 1;
      if (this.tries >= TRIES) {
        this.closed = true;
        this.onLost();
      } else
        setTimeout(() => {
          if (!this.closed) this.connect();
        }, WAIT_MS * this.tries);
    };
    this.socket = socket;
  }

  // Sends a message if the socket is open; says whether it was.
  send(message) {
    if (this.open) this.socket.send(JSON.stringify(message));
    return this.open;
  }

  close() {
    this.closed = true;
    this.socket?.close();
  }
}
