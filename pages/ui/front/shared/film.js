// The plots of a board as a film (WebM), made in the browser: a board with `frames` steps shows each in turn.

import { sheetOf } from "./sheet.js";

export const FILM_S = 8;
const PICTURES_S = 20;
const TYPE = "video/webm";

export const canFilm = () => window.MediaRecorder?.isTypeSupported(TYPE) ?? false;

// `report(share)` is told how much is done, and returns false to stop; then the result is null.
export const filmOf = async (board, report) => {
  const { sheet, draw } = sheetOf(board);
  const recorder = new MediaRecorder(sheet.captureStream(PICTURES_S), { mimeType: TYPE });
  const parts = [];
  const ended = new Promise((done) => {
    recorder.onstop = done;
  });
  recorder.ondataavailable = ({ data }) => parts.push(data);
  const { step } = board;
  const last = board.frames - 1;
  const begin = performance.now();
  let going = true;
  recorder.start();
  try {
    for (let share = 0; going && share < 1; ) {
      // A recorder takes pictures as time goes by, so the film's time is the clock's.
      share = Math.min(1, (performance.now() - begin) / (1000 * FILM_S));
      board.step = Math.round(share * last);
      board.draw();
      draw();
      going = report(share);
      await new Promise((done) => setTimeout(done, 1000 / PICTURES_S));
    }
  } finally {
    recorder.stop();
    board.step = step;
    board.dirty();
  }
  await ended;
  return going ? new Blob(parts, { type: TYPE }) : null;
};
