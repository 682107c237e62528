export default function ({ data }) {
  if (data) window.dispatchEvent(new CustomEvent("e2crf-news", { detail: data }));
}
