const fields = document.querySelector("#fields");
fields.addEventListener("click", () => {
  const shown = fields.getAttribute("aria-pressed") !== "true";
  fields.setAttribute("aria-pressed", shown);
  fields.textContent = shown ? "hide fields" : "show all fields";
  for (const row of document.querySelectorAll("tr.field")) row.hidden = !shown;
});

// A playhead over each clip's timeline, and a click there to seek.
for (const clip of document.querySelectorAll(".clip")) {
  const media = clip.querySelector("video, audio");
  const lane = clip.querySelector(".playable");
  const head = clip.querySelector(".head");
  if (!media || !lane) continue;
  const draw = () => {
    head.style.opacity = media.currentTime ? 0.7 : 0;
    head.style.left = (100 * media.currentTime) / (media.duration || 1) + "%";
    if (!media.paused) requestAnimationFrame(draw);
  };
  for (const event of ["play", "seeked", "pause"]) media.addEventListener(event, draw);
  lane.addEventListener("click", (event) => {
    const box = lane.getBoundingClientRect();
    media.currentTime = ((event.clientX - box.left) / box.width) * (media.duration || 0);
  });
}
